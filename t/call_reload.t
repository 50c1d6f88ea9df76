#!/usr/bin/perl

# Tests for 200 flows with messages and calls while nginx is reloaded ten times
# in a row: nothing is closed, lost or doubled.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant { FLOWS => 200, RELOADS => 10 };

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(14);

ims_keys($t);
ims_pool($t, size => 250);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));
my (@flows, %dialog, %seen, %sent);

# the last ten are made one after each reload, so that all generations have
# one

add() for 1 .. FLOWS - RELOADS;
my %path = map { $_ => $_->{path} } @flows;

my $master = $t->read_file('nginx.pid') + 0;
my $n = 0;

for my $r (1 .. RELOADS) {
    kill 'HUP', $master;
    traffic("$r-during");
    ims_wait_log($t, qr/gracefully shutting down/, count => 2 * $r);
    add();
    traffic("$r-after");
}

my $all = keys %sent;
cmp_ok($all, '>', 15000, "$all messages sent");
is(scalar(grep { !$seen{$_} } keys %sent), 0, 'none is lost')
    or diag join ' ', (grep { !$seen{$_} } sort keys %sent)[0 .. 9];
is(scalar(grep { $seen{$_} > 1 } keys %seen), 0, 'none is doubled');
is(scalar(grep { !$sent{$_} } keys %seen), 0, 'none is made up');

is(scalar(grep { $_->{ws}{close} || $_->{ws}{eof} } @flows), 0,
    'no flow is closed');
is(scalar(grep { $_->alive() } @flows), FLOWS, 'all are served');

# the calls that began before end after

my ($ended, $hung_up) = (0, 0);

for my $c (@flows) {
    $c->send($dialog{$c}[0]->from_client('BYE'));
    my ($m, $link) = $core->request() or last;
    $core->reply($link, $m, 200, 'OK');
    $ended++ if $c->answer()->{status} == 200;

    $core->send(into(), $dialog{$c}[1]->from_core('BYE'));
    $m = $c->answer() or last;
    $c->send(sip_reply($m, 200, 'OK'));
    my ($r) = $core->request();
    $hung_up++ if $r && $r->{status} == 200;
}

is($ended, FLOWS, 'calls ended by the clients');
is($hung_up, FLOWS, 'and by the core');

# refreshed with the same Path

my $same = 0;
for my $c (@flows) {
    my $path = $c->{path};
    ImsCall::registered($c, $core);
    $same++ if $c->{path} eq $path;
}
is($same, FLOWS, 'refreshed, each the same flow');

my $counters = ims_status()->{counters};
is($counters->{$_}, 0, "none of $_")
    for qw/ flow_lost response_lost response_unmatched core_timeout /;
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub add {
    my $c = ImsClient->new(user => 'user' . (1 + @flows));

    ImsCall::registered($c, $core);
    $dialog{$c} = [ ImsCall->calls($c, $core),
                    ImsCall->called($c, $core, into()) ];
    push @flows, $c;
}


# a connection into the edge; workers that leave close theirs

sub into {
    $core->silent(0);
    $in = $core->connect(port(8070))
        unless grep { $_ == $in } $core->links();

    return $in;
}


# a message and a request of a dialog on each flow, in both directions, all
# under way at once

sub traffic {
    my ($label) = @_;

    my $want = 0;

    for my $c (@flows) {
        my $id = "$label-$c->{user}";

        $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
            call_id => 'm-' . ++$n, body => marked("$id-up")));
        $c->send($dialog{$c}[0]->from_client('INFO',
            body => marked("$id-up-dialog")));
        $core->send(into(), ImsCall::core_request($c, 'MESSAGE',
            body => marked("$id-down")));
        $core->send(into(), $dialog{$c}[1]->from_core('INFO',
            body => marked("$id-down-dialog")));
        $want += 2;
    }

    # at the core: requests up, answers of what went down

    my ($up, $answered) = (0, 0);

    for my $c (@flows) {
        for (1, 2) {
            my $m = $c->answer(5) or last;
            redo if $m->{status} && ++$answered;
            $seen{$m->{body}}++;
            $c->send(sip_reply($m, 200, 'OK'));
        }
    }

    my $down = 0;
    my $end = time() + 8;

    while (time() < $end && ($up < $want || $down < $want)) {
        my ($m, $link) = $core->request(0.5) or next;

        if ($m->{status}) {
            $down++ if $m->{status} == 200;
            next;
        }

        $up++;
        $seen{$m->{body}}++;
        $core->reply($link, $m, 200, 'OK');
    }

    # at the clients: answers of what went up

    for my $c (@flows) {
        for (1, 2) {
            my $m = $c->answer(3) or last;
            $answered++ if ($m->{status} // 0) == 200;
        }
    }

    diag "$label: $up up, $down answered, $answered answers of $want"
        if $up != $want || $down != $want || $answered != $want;
}


sub marked {
    my ($id) = @_;

    $sent{$id}++;

    return $id;
}

###############################################################################
