package ImsTraffic;

# Flows with calls, and messages on all of them in both directions, so that a
# test can tell whether anything was lost, doubled or closed meanwhile.
#
#   my $traffic = ImsTraffic->new($core);
#   $traffic->add() for 1 .. 50;             # registered, and in two calls
#   $traffic->round('before');
#   $traffic->lost(), ->doubled(), ->made_up()      # labels of messages
#   $traffic->closed(), ->dead()                    # numbers of flows
#   $traffic->hang_up()                             # calls ended: (by the
#                                                   # clients, by the core)
#   $traffic->refreshed()                           # with the same Path

use strict;
use warnings;

use Time::HiRes qw/ time /;

use ImsCall;
use ImsClient;
use ImsSip;
use Test::More ();
use Test::Nginx ();


sub new {
    my ($class, $core) = @_;

    return bless { core => $core, flows => [], dialog => {}, seen => {},
                   sent => {}, n => 0 }, $class;
}


sub flows { return @{$_[0]{flows}} }


sub add {
    my ($self) = @_;

    my $c = ImsClient->new(user => 'user' . (1 + $self->flows()));

    ImsCall::registered($c, $self->{core});
    $self->{dialog}{$c} = [ ImsCall->calls($c, $self->{core}),
        ImsCall->called($c, $self->{core}, $self->into()) ];
    push @{$self->{flows}}, $c;
}


# a connection into the edge; workers that leave close theirs

sub into {
    my ($self) = @_;

    my $core = $self->{core};

    $core->silent(0);
    $self->{in} = $core->connect(Test::Nginx::port(8070))
        unless $self->{in} && grep { $_ == $self->{in} } $core->links();

    return $self->{in};
}


# a message and a request of a dialog on each flow, in both directions, all
# under way at once

sub round {
    my ($self, $label) = @_;

    my ($core, $seen) = @$self{qw/ core seen /};
    my $want = 0;

    for my $c ($self->flows()) {
        my $id = "$label-$c->{user}";
        my $dialog = $self->{dialog}{$c};

        $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
            call_id => 'm-' . ++$self->{n}, body => $self->_mark("$id-up")));
        $c->send($dialog->[0]->from_client('INFO',
            body => $self->_mark("$id-up-dialog")));
        $core->send($self->into(), ImsCall::core_request($c, 'MESSAGE',
            body => $self->_mark("$id-down")));
        $core->send($self->into(), $dialog->[1]->from_core('INFO',
            body => $self->_mark("$id-down-dialog")));
        $want += 2;
    }

    # at the core: requests up, answers of what went down

    my ($up, $answered) = (0, 0);

    for my $c ($self->flows()) {
        for (1, 2) {
            my $m = $c->answer(5) or last;
            redo if $m->{status} && ++$answered;
            $seen->{$m->{body}}++;
            $c->send(sip_reply($m, 200, 'OK'));
        }
    }

    my $down = 0;
    my $end = time() + 15;

    while (time() < $end && ($up < $want || $down < $want)) {
        my ($m, $link) = $core->request(0.5) or next;

        if ($m->{status}) {
            $down++ if $m->{status} == 200;
            next;
        }

        $up++;
        $seen->{$m->{body}}++;
        $core->reply($link, $m, 200, 'OK');
    }

    # at the clients: answers of what went up

    for my $c ($self->flows()) {
        for (1, 2) {
            my $m = $c->answer(3) or last;
            $answered++ if ($m->{status} // 0) == 200;
        }
    }

    Test::More::diag("$label: $up up, $down answered, "
                     . "$answered answers of $want")
        if $up != $want || $down != $want || $answered != $want;

    return $up == $want && $down == $want && $answered == $want;
}


sub _mark {
    my ($self, $id) = @_;

    $self->{sent}{$id}++;

    return $id;
}


sub sent { return keys %{$_[0]{sent}} }


sub lost {
    my ($self) = @_;

    return grep { !$self->{seen}{$_} } sort keys %{$self->{sent}};
}


sub doubled {
    my ($self) = @_;

    return grep { $self->{seen}{$_} > 1 } sort keys %{$self->{seen}};
}


sub made_up {
    my ($self) = @_;

    return grep { !$self->{sent}{$_} } sort keys %{$self->{seen}};
}


sub closed {
    return scalar grep { $_->{ws}{close} || $_->{ws}{eof} } $_[0]->flows();
}


sub dead { return scalar grep { !$_->alive() } $_[0]->flows() }


sub hang_up {
    my ($self) = @_;

    my ($ended, $hung_up) = (0, 0);
    my $core = $self->{core};

    for my $c ($self->flows()) {
        my $dialog = $self->{dialog}{$c};

        $c->send($dialog->[0]->from_client('BYE'));
        my ($m, $link) = $core->request() or last;
        $core->reply($link, $m, 200, 'OK');
        $ended++ if $c->answer()->{status} == 200;

        $core->send($self->into(), $dialog->[1]->from_core('BYE'));
        $m = $c->answer() or last;
        $c->send(sip_reply($m, 200, 'OK'));
        my ($r) = $core->request();
        $hung_up++ if $r && $r->{status} == 200;
    }

    return ($ended, $hung_up);
}


sub refreshed {
    my ($self) = @_;

    my $same = 0;

    for my $c ($self->flows()) {
        my $path = $c->{path};
        ImsCall::registered($c, $self->{core});
        $same++ if $c->{path} eq $path;
    }

    return $same;
}


1;
