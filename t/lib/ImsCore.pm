package ImsCore;

# A core that does what a test tells it, for all that cannot be had from a
# real one: late, lost, doubled or wrong answers, links that close, answers
# over another connection. It runs inside the test: nothing happens between
# its calls.
#
#   my $core = ImsCore->new(port(8061));
#   my ($m, $link) = $core->request(5);          # parsed, see ImsSip
#   $core->reply($link, $m, 200, 'OK', extra => ['Service-Route: <...>']);
#   my $other = $core->connect(port(8070));      # to the edge's ims_listen
#   $other->print($text);  $core->close($link);

use strict;
use warnings;

use IO::Select;
use IO::Socket::IP;
use ImsSip;
use Test::Nginx ();
use Time::HiRes qw/ time /;


# %o: host (127.0.0.1, or ::1)

sub new {
    my ($class, $port, %o) = @_;

    my $host = $o{host} // '127.0.0.1';

    my $listen = IO::Socket::IP->new(
        Proto => 'tcp', LocalHost => $host, LocalPort => $port, Listen => 64,
        ReuseAddr => 1) or die "listen on $host $port: $!\n";

    return bless { listen => $listen, buf => {}, queue => [], port => $port,
                   host => $host,
                   accepted => 0, sel => IO::Select->new($listen) }, $class;
}


# the next whole message of any link: (message, link), or () in time

sub request {
    my ($self, $seconds) = @_;

    my $end = time() + ($seconds // 5);

    until (@{$self->{queue}}) {
        my $left = $end - time();
        return () if $left <= 0;

        for my $s ($self->{sel}->can_read($left)) {
            $s == $self->{listen} ? $self->_accept() : $self->_read($s);
        }
    }

    return @{shift @{$self->{queue}}};
}


# true if nothing comes for a while

sub silent {
    my ($self, $seconds) = @_;

    my @got = $self->request($seconds // 0.5);

    unshift @{$self->{queue}}, \@got if @got;

    return !@got;
}


sub reply {
    my ($self, $link, $m, $status, $reason, %o) = @_;

    return $self->send($link, sip_reply($m, $status, $reason, %o));
}


sub send {
    my ($self, $link, $text) = @_;

    local $SIG{PIPE} = 'IGNORE';

    Test::Nginx::log_out($text);

    return $link->syswrite($text);
}


sub connect {
    my ($self, $port) = @_;

    my $s = IO::Socket::IP->new(Proto => 'tcp', PeerPort => $port,
                                PeerHost => $self->{host})
        or die "connect to the edge at $port: $!\n";

    $self->{buf}{$s} = '';
    $self->{sel}->add($s);

    return $s;
}


sub close {
    my ($self, $link) = @_;

    $self->{sel}->remove($link);
    delete $self->{buf}{$link};
    CORE::close $link;
}


# no more connections are taken; those there stay

sub deaf {
    my ($self) = @_;

    $self->{sel}->remove($self->{listen});
    CORE::close $self->{listen};
}


sub links {
    my ($self) = @_;

    return grep { $_ != $self->{listen} } $self->{sel}->handles();
}


sub _accept {
    my ($self) = @_;

    my $s = $self->{listen}->accept() or return;

    $self->{accepted}++;
    $self->{buf}{$s} = '';
    $self->{sel}->add($s);
}


sub _read {
    my ($self, $s) = @_;

    my $n = sysread $s, $self->{buf}{$s}, 65536, length $self->{buf}{$s};

    if (!$n) {
        $self->close($s);
        return;
    }

    while (defined(my $text = sip_frame(\$self->{buf}{$s}))) {
        Test::Nginx::log_in($text);
        push @{$self->{queue}}, [sip_parse($text), $s];
    }
}


1;
